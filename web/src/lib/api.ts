/** Requests to the studio's own server: JSON in, JSON out, and errors with what to do. */

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly fix?: string,
    readonly body?: unknown,
  ) {
    super(message);
  }
}

/** A request as it is; ApiError where the server refuses, or is not there. */
export async function raw(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("X-Frisket", "1");
  let response: Response;
  try {
    response = await fetch(`/api${path}`, { ...init, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "the studio does not answer", "Is `frisket studio` still running?");
  }
  if (!response.ok) throw await readError(response);
  return response;
}

async function readError(response: Response): Promise<ApiError> {
  try {
    const body = (await response.json()) as { error?: string; fix?: string };
    return new ApiError(response.status, body.error ?? response.statusText, body.fix, body);
  } catch {
    return new ApiError(response.status, response.statusText || `HTTP ${response.status}`);
  }
}

async function send<T>(
  method: string,
  path: string,
  body?: unknown,
  init: RequestInit = {},
): Promise<T> {
  const headers = new Headers(init.headers);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const text = body === undefined ? undefined : JSON.stringify(body);
  const response = await raw(path, { ...init, method, headers, body: text });
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

export const get = <T>(path: string, init?: RequestInit) => send<T>("GET", path, undefined, init);
export const post = <T>(path: string, body?: unknown, init?: RequestInit) =>
  send<T>("POST", path, body ?? {}, init);
export const put = <T>(path: string, body: unknown, init?: RequestInit) =>
  send<T>("PUT", path, body, init);
export const patch = <T>(path: string, body: unknown, init?: RequestInit) =>
  send<T>("PATCH", path, body, init);
export const del = <T>(path: string, init?: RequestInit) =>
  send<T>("DELETE", path, undefined, init);
