"""Selects rows once, then trains on them with TRL's SFTTrainer and LoRA."""
