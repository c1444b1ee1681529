//! Pages for people.

pub(crate) mod api_reference;

mod served;
mod style;
