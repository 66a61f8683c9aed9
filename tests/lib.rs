//! What the end-to-end tests share. The tests themselves are the files beside this one.
