"""The choices: recipes as TOML, resolved to one config, and the runs on disk that come of them."""
