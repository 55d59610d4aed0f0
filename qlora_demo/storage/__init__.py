"""What users leave: uploads, corrections, packs, result files."""
