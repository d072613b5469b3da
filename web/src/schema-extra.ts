// Parts of answers that the OpenAPI document leaves open, because signed records may carry more than is listed.

/** A signed statement about a person (docs/directory.md). */
export interface Badge {
  type?: string;
  issuer?: string;
  expires?: number;
}
