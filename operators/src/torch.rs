//! What runs on libtorch. Nothing outside this folder sees tch.
