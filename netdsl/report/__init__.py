"""What a network costs, in every form that people and programs read."""
