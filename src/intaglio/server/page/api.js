// The server's API: requests, their errors as sentences, and chats as they stream.

import { authorization, askForKey } from "./key.js";
import { events } from "./sse.js";

/** What the server said, or that it could not be heard: `status` 0. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const UNREACHABLE = "The server cannot be reached. Check that it is running, then try again.";
const LOST = "The connection to the server was lost, so the answer is not complete.";

/** GET; with `ask`, an answer 401 asks for the key and tries again. */
export async function get(path, { signal, ask = true } = {}) {
  return (await send(path, { signal }, ask)).json();
}

/** The chunks of a streamed chat completion. Raises ApiError, also for a stream that ends early. */
export async function* chat(request, signal) {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const headers = { "Content-Type": "application/json" };
  const response = await send("v1/chat/completions", { method: "POST", headers, body, signal }, true);
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      yield parsed(data);
    }
  } catch (error) {
    throw error instanceof ApiError || signal.aborted ? error : new ApiError(LOST);
  }
  throw new ApiError(LOST);
}

function parsed(data) {
  const chunk = JSON.parse(data);
  if (chunk.error) throw new ApiError(chunk.error.message ?? "The server failed without saying why.");
  return chunk;
}

async function send(path, options, ask) {
  for (;;) {
    const response = await attempt(path, options);
    if (response.ok) return response;
    if (response.status !== 401 || !ask || !(await askForKey())) throw await refusal(response);
  }
}

async function attempt(path, { headers, signal, ...options }) {
  const all = { ...headers, ...authorization() };
  try {
    return await fetch(path, { ...options, headers: all, signal, cache: "no-store", credentials: "omit" });
  } catch (error) {
    throw signal?.aborted ? error : new ApiError(UNREACHABLE);
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const said = body?.error?.message ?? `The server answered ${response.status} ${response.statusText}`.trim();
  const wait = response.headers.get("Retry-After");
  return new ApiError(wait ? `${said} (try again in ${wait} s)` : said, response.status);
}
