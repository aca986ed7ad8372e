"""Operations, memory and parameters, counted."""
