"""Array operations on coded matrices. `cpu` chooses and packs for the native core."""
