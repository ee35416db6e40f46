"""One row per image, per box and per problem, made in one pass over the files."""
