"""OneTrainer's options, by what they are about; `data.layouts.onetrainer` reads its files."""
