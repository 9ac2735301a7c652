"""Select, then TRL's SFTTrainer with LoRA."""
