"""What ``super-app doctor`` looks at, one module for each part of a homeserver's surroundings."""
