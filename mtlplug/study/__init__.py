"""The study: pre-finetune on every combination of groups, finetune on unseen targets, compare."""
