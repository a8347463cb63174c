"""What image cells attend to: captured from a running denoiser, as maps on the latent grid."""
