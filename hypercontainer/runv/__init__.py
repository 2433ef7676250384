"""runv: OCI's runtime command line. A thin client of hyperd's door for bundles; what it imports costs each verb."""
