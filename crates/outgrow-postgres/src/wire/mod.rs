//! The wire protocol (versions 3.0 and 3.2), without input and output: messages in, facts out.
