//! Enums whose values can be listed, so that documents and tests cover all of them.

/// Defines an enum with a function that returns all of its values. A variant that contains another
/// such enum contributes one value for each of its values.
macro_rules! listed {
    ($(#[$attribute:meta])* pub enum $name:ident {
        $($(#[$of_variant:meta])* $variant:ident $(($inner:ty))?,)*
    }) => {
        $(#[$attribute])*
        pub enum $name {
            $($(#[$of_variant])* $variant $(($inner))?,)*
        }

        impl $name {
            /// Returns all values, in the order of the variants.
            pub fn all() -> Vec<$name> {
                [$(listed!(@values $name::$variant $(, $inner)?)),*].concat()
            }
        }
    };
    (@values $name:ident::$variant:ident) => { vec![$name::$variant] };
    (@values $name:ident::$variant:ident, $inner:ty) => {
        <$inner>::all().into_iter().map($name::$variant).collect::<Vec<_>>()
    };
}
pub(crate) use listed;
