"""Model providers, one file each, all behind `base.Provider`."""
