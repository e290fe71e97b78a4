//! Who clients are and how we prove to servers who we are.
