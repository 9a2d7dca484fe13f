"""Operations that the platforms compute each in its own way, one idea a file."""
