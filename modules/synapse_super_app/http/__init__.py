"""The HTTP edge: routes, their OpenAPI document, and how a refusal looks on the wire."""
