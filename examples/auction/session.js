// The user of this tab: login, newer tokens, logout.
//
// The token is kept in the tab, not in a cookie, so that each tab can have another user.

const STORED = 'postern-example-token';

/** The users of the development Identity service. Their passwords are the same. */
export const USERS = [
  { email: 'john@example.com', name: 'John Doe' },
  { email: 'ann@example.com', name: 'Ann Example' },
  { email: 'rene@example.com', name: 'Renée 李 Дима' },
];
const PASSWORD = 'password123';

/** Returns the token of this tab, or null. */
export const token = () => sessionStorage.getItem(STORED);

/** Returns the id, the name and the e-mail address in the token. Only for display: the gateway decides about the user. */
export function user() {
  const payload = token().split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
  const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
  const { sub, name, email } = JSON.parse(new TextDecoder().decode(bytes));
  return { id: sub, name, email };
}

export async function logIn(email) {
  // Removes the cookie that another page may have set: Identity prefers it to the token of this tab.
  await request('/identity/logout', { credentials: 'same-origin' });
  const body = JSON.stringify({ email, password: PASSWORD });
  const answer = await request('/identity/login', { body, headers: { 'Content-Type': 'application/json' } });
  const { accessToken } = await answer.json();
  sessionStorage.setItem(STORED, accessToken);
}

/** Gets a newer token, and shows it to Postern, so that open connections of this session live longer. */
export async function refresh() {
  const answer = await request('/identity/refresh', { headers: bearer() });
  sessionStorage.setItem(STORED, (await answer.json()).accessToken);
  await request('/connection/websocket/refresh', { headers: bearer() });
}

/** Returns whether Identity has refused the token. A page cannot see why a WebSocket was refused. */
export async function isRefused() {
  try {
    const answer = await fetch('/identity/validate', { credentials: 'omit', headers: bearer() });
    return answer.status === 401;
  } catch {
    return false;
  }
}

/** Ends the session: Identity asks Postern to close its connections. */
export async function logOut() {
  const headers = bearer();
  sessionStorage.removeItem(STORED);
  await request('/identity/logout', { headers });
}

/** Forgets a token that is not accepted any more. */
export const forget = () => sessionStorage.removeItem(STORED);

const bearer = () => ({ Authorization: `Bearer ${token()}` });

async function request(path, options) {
  const response = await fetch(path, { method: 'POST', credentials: 'omit', ...options });
  if (!response.ok) throw new Error(`${path} was answered with ${response.status}`);
  return response;
}
