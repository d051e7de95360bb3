"""`aosctl doctor`: rules over the live catalog and its surroundings, and what they find."""
