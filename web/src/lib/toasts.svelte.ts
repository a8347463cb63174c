/** Short messages that pass. */

import { ApiError } from "./api.ts";

export type ToastKind = "info" | "ok" | "warn" | "error";

export interface Toast {
  id: number;
  text: string;
  kind: ToastKind;
  fix?: string;
}

export const toasts: { list: Toast[] } = $state({ list: [] });
let next = 1;

/** Show a message; errors stay until they are closed. */
export function toast(text: string, kind: ToastKind = "info", fix?: string): void {
  const id = next++;
  toasts.list = [...toasts.list.slice(-4), { id, text, kind, fix }];
  if (kind !== "error") setTimeout(() => dismiss(id), 5000);
}

/** Show what went wrong, with what to do about it. */
export function toastError(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const message = error instanceof Error ? error.message : String(error);
  toast(message, "error", error instanceof ApiError ? error.fix : undefined);
}

export function dismiss(id: number): void {
  toasts.list = toasts.list.filter((each) => each.id !== id);
}
