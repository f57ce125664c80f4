"""A package that is loaded while the component is made."""
