"""Results for people: on the terminal, later as figures and pages."""
