"""`aosctl shell`: the prompt in which every verb works without the word aosctl."""
