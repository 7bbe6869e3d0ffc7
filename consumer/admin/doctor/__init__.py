"""Finds problems before they occur: one function per check, which returns findings and how to fix them."""
