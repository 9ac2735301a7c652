"""A typical TRL script: python existing_script.py MODEL DATA.jsonl OUTPUT."""

import sys

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

model, data, output = sys.argv[1:]
pool = load_dataset("json", data_files=data, split="train")
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=output,
        num_train_epochs=1,
        per_device_train_batch_size=2,
        max_length=64,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
    ),
    train_dataset=pool,
    peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
)
trainer.train()
