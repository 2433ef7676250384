"""The driver of Xen: `xl` and xenstore."""
