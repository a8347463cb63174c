"""What is said to those who want text encoders trained: one sentence, for every door."""

TEXT_ENCODERS = (
    "text encoders are not trained yet, only the denoiser is: leave their rate and switches out,"
    " and let the captions name the subject in words the model knows"
)
