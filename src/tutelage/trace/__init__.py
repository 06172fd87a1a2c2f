"""Methods that trace what learners know, from their answers."""
