// Why something did not happen, as a person should hear it.

import { t } from "./text/index.ts";

/** What a server refused, or why it could not be asked. ``message`` is a sentence that says what to do. */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, status = 0, fields: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.fields = fields;
  }

  get offline(): boolean {
    return this.code === "OFFLINE";
  }

  /** Whether the server may have done what it was asked: nobody heard its answer. */
  get unheard(): boolean {
    return this.offline || this.status >= 500;
  }

  get signedOut(): boolean {
    return this.status === 401;
  }
}

export function offline(): Problem {
  return new Problem("OFFLINE", t("problem.offline"));
}

/** What ``thrown`` means to a person. */
export function asProblem(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  // fetch throws a TypeError when nobody answers.
  if (thrown instanceof TypeError) return offline();
  if (thrown instanceof DOMException && thrown.name === "TimeoutError") return offline();
  return new Problem("UNKNOWN", t("problem.unknown"));
}

/** The problem that an answer other than 2xx tells of. */
export function problemOf(status: number, body: unknown): Problem {
  if (typeof body === "object" && body !== null && "errcode" in body) {
    const { errcode, error, ...fields } = body as Record<string, unknown>;
    const code = String(errcode).replace(/^ORG\.SUPERAPP\./, "");
    if (code === "M_FORBIDDEN" && status === 403 && typeof error === "string") return new Problem(code, error, status);
    if (code === "M_LIMIT_EXCEEDED") return new Problem(code, t("problem.slow_down"), status, fields);
    if (code === "M_UNKNOWN_TOKEN" || code === "M_MISSING_TOKEN")
      return new Problem(code, t("problem.signed_out"), 401);
    return new Problem(code, typeof error === "string" && error !== "" ? error : t("problem.unknown"), status, fields);
  }
  return new Problem("BROKEN", status >= 500 ? t("problem.server") : t("problem.unknown"), status);
}
