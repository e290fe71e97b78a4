//! What statements are and do, as far as it can be told from their text and the catalogue.
