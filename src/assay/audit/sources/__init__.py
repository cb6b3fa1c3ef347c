"""Where images come from: drawn, a diffusers pipeline, an images endpoint, a folder."""
