"""The search: Ray Tune runs trials that Optuna suggests and ASHA stops."""
