"""The panels of the page, one module each. `SHOWN` are the functions whose source the page shows."""
