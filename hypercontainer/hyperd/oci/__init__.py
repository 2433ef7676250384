"""The door for engines that have bundles of their own: OCI's runtime specification, by `runv`."""
