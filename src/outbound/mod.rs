//! Floor 4: whom we call. The rooms do not see each other.
