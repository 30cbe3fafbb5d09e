// An OMS of one path behind the tokens of oidc-provider. It refuses a token that was never given, and the first that is used after
// /revoke; when a token that is used ends is told (/seen: ends, in seconds since 1970) and not enforced, for how long a call is on its
// way is this machine's affair.
// node oauth.mjs PATH_OF_THE_PACKAGE; prints its port once it listens, and ends with its standard input.
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const { default: Provider } = await import(pathToFileURL(process.argv[2]));
const seen = { created: 0, refused: 0, tokens: 0, ends: [] };
const given = new Map();
let revoke = false;

// Where the provider keeps its tokens.
class Kept {
  async upsert(id, payload) {
    seen.tokens += 1;
    given.set(id, payload.exp);
  }
}

const provider = new Provider('http://127.0.0.1', {
  clients: [{
    client_id: 'fore:bay',
    client_secret: 'of the tests & more: 100 %+',
    grant_types: ['client_credentials'],
    scope: 'orders',
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
  scopes: ['orders', 'stock'],
  ttl: { ClientCredentials: 2 },
  adapter: Kept,
});

const answer = (response, status, body) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};
const oauth = provider.callback();
const server = createServer(async (request, response) => {
  switch (request.url) {
    case '/seen':
      return answer(response, 200, seen);
    case '/revoke':
      revoke = true;
      return answer(response, 200, {});
    case '/orders': {
      const value = (request.headers.authorization ?? '').replace('Bearer ', '');
      if (given.has(value)) seen.ends.push(given.get(value));
      if (revoke) given.delete(value);
      revoke = false;
      if (!given.has(value)) {
        seen.refused += 1;
        return answer(response, 401, { code: 'invalid_token' });
      }
      seen.created += 1;
      return answer(response, 201, { id: `o-${seen.created}` });
    }
    default:
      return oauth(request, response);
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit(0));
