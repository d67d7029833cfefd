//! The demo users.

/// A user who can log in.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// The value of `User-ID`.
    pub id: &'static str,
    /// The value of `User-Email`.
    pub email: &'static str,
    /// The value of `User-Name`, as raw UTF-8.
    pub name: &'static str,
}

/// All users. The name of the third has three scripts.
pub const USERS: [User; 3] = [
    User { id: "123", email: "john@example.com", name: "John Doe" },
    User { id: "u-1001", email: "ann@example.com", name: "Ann Example" },
    User { id: "u-1002", email: "rene@example.com", name: "Renée 李 Дима" },
];

/// The password of all users.
pub const PASSWORD: &str = "password123";

/// Returns the user with these credentials.
pub fn authenticate(email: &str, password: &str) -> Option<&'static User> {
    by_email(email).filter(|_| password == PASSWORD)
}

/// Returns the user with this email address.
pub fn by_email(email: &str) -> Option<&'static User> {
    USERS.iter().find(|user| user.email == email)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_must_match_exactly() {
        assert_eq!(authenticate("john@example.com", "password123").map(|user| user.id), Some("123"));
        for (email, password) in [
            ("john@example.com", "Password123"),
            ("john@example.com", ""),
            ("nobody@example.com", "password123"),
        ] {
            assert_eq!(authenticate(email, password), None, "{email} {password}");
        }
    }
}
