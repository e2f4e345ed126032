#!/bin/sh
# Stands for `paloma serve --in-memory --config FILE`: the reference server where the file says. PALOMA_LOAD is its program.
address=$(sed -n 's/^address = "\(.*\)"$/\1/p' "$4") || exit 1
exec "$PALOMA_LOAD" floor --listen "$address"
