"""Function-calling adapters: one canonical example in three prompt formats, checked before training, judged after."""
