"""From camera messages on DDS to paired frames: subscriptions, the wait thread and stamp matching."""
