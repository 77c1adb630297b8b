"""nHSIC as the paper has it, debiased CKA, and information in bits."""
