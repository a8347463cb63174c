"""SimpleTuner's options, by what they are about; `data.layouts.simpletuner` reads its files."""
