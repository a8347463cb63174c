/** Dark, light, or as the system has it; remembered by this browser. */

export type Theme = "system" | "dark" | "light";
const KEY = "frisket-theme";

export const theme: { choice: Theme } = $state({ choice: recall() });

function recall(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "dark" || kept === "light" ? kept : "system";
}

export function chooseTheme(choice: Theme): void {
  theme.choice = choice;
  localStorage.setItem(KEY, choice);
  applyTheme();
}

export function applyTheme(): void {
  const root = document.documentElement;
  if (theme.choice === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.choice;
}
