//! Who is asked next, and who is not.
