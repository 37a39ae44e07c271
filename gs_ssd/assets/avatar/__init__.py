"""An avatar as an asset: a splat bound to a body's surface, trained in many poses."""
