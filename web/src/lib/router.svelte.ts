/** Where one is, kept in the address: #/data, #/mask/CLIP, #/runs?of=a,b. */

export const PAGES = ["data", "mask", "masks", "train", "runs", "generate"] as const;
export type PageName = (typeof PAGES)[number];

interface Route {
  page: PageName;
  parts: string[];
  query: URLSearchParams;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page = "data", ...parts] = path.split("/").map(decodeURIComponent);
  const known = PAGES.find((name) => name === page) ?? "data";
  return { page: known, parts, query: new URLSearchParams(query) };
}

export const route: Route = $state(read());

addEventListener("hashchange", () => Object.assign(route, read()));

/** The address of a page. */
export function href(page: PageName, ...parts: string[]): string {
  return "#/" + [page, ...parts.map(encodeURIComponent)].join("/");
}

/** Go to a page; the browser's Back comes back. */
export function go(page: PageName, ...parts: string[]): void {
  location.hash = href(page, ...parts);
}
