"""The demonstration of the tasks that generate: many streams write, or translate, at once."""
