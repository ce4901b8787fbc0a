package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	population "datafordeler/providers/synthetic"
)

// Every way in which a token can be wrong, beside one that is right.
func TestTokens(t *testing.T) {
	d := newDoors(t, nil)
	m, p := machine(d.machine.URL+"/"), person(d.login.URL+"/")
	text := func(claims map[string]any) string {
		b, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := token(m)
	parts := strings.Split(good, ".")
	secret := func(key []byte) string {
		text := b64([]byte(`{"alg":"HS256","kid":"a","typ":"JWT"}`)) + "." + parts[1]
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return text + "." + b64(h.Sum(nil))
	}
	public, err := x509.MarshalPKIXPublicKey(&keyA().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	head := func(more string) string { return sign(keyA(), `{"alg":"RS256","kid":"a"`+more+`}`, text(m)) }
	jwk, err := json.Marshal(jwkOf("a", &keyB().PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	supplied := with(m, "supplier", org(supplier), "delegation_source", "https://tt02.altinn.no/")
	for name, c := range map[string]struct {
		token string
		right bool
	}{
		"an organisation":            {good, true},
		"no audience":                {token(with(m, "aud", nil)), true},
		"within the leeway, ended":   {token(with(m, "exp", t0.Unix()-9)), true},
		"within the leeway, to come": {token(with(m, "iat", t0.Unix()+9)), true},
		"a fraction of a second":     {token(with(m, "iat", float64(t0.Unix())+0.5)), true},
		"a supplier":                 {token(supplied), true},
		"a pid that nobody asked":    {token(with(m, "pid", "garbage")), true},
		"other claims":               {token(with(m, "authorization_details", []any{map[string]any{"type": "urn:altinn:consent"}})), true},
		"no typ":                     {head(``), true},
		"typ at+jwt":                 {head(`,"typ":"at+jwt"`), true},

		"ended":                 {token(with(m, "exp", t0.Unix()-10)), false},
		"no end":                {token(with(m, "exp", nil)), false},
		"an end in text":        {token(with(m, "exp", "2036-01-01")), false},
		"an end too far":        {sign(keyA(), goodHead, strings.Replace(text(m), `"exp":`, `"exp":1e300,"x":`, 1)), false},
		"an end below 0":        {token(with(m, "exp", -1)), false},
		"made to last":          {token(with(m, "exp", t0.Unix()+3601)), false},
		"not yet made":          {token(with(m, "iat", t0.Unix()+11)), false},
		"no beginning":          {token(with(m, "iat", nil)), false},
		"not yet":               {token(with(m, "nbf", t0.Unix()+11)), false},
		"not before, in text":   {token(with(m, "nbf", "soon")), false},
		"end in capitals":       {token(with(m, "exp", t0.Unix()-100, "EXP", t0.Unix()+100)), false},
		"another issuer":        {token(with(m, "iss", "https://maskinporten.example/")), false},
		"issuer without slash":  {token(with(m, "iss", d.machine.URL)), false},
		"issuer with more":      {token(with(m, "iss", d.machine.URL+"/.")), false},
		"no issuer":             {token(with(m, "iss", nil)), false},
		"a list of issuers":     {token(with(m, "iss", []string{d.machine.URL + "/"})), false},
		"another audience":      {token(with(m, "aud", "https://other.example/api")), false},
		"some audiences":        {token(with(m, "aud", []string{"unspecified", "https://other.example/api"})), false},
		"an audience of number": {token(with(m, "aud", 7)), false},
		"audiences of numbers":  {token(with(m, "aud", []any{"unspecified", 7})), false},

		"alg none":                   {b64([]byte(`{"alg":"none","kid":"a"}`)) + "." + parts[1] + ".", false},
		"alg none, signed":           {sign(keyA(), `{"alg":"none","kid":"a"}`, text(m)), false},
		"alg None":                   {sign(keyA(), `{"alg":"NoNe","kid":"a"}`, text(m)), false},
		"alg missing":                {sign(keyA(), `{"kid":"a"}`, text(m)), false},
		"HS256 with the public DER":  {secret(public), false},
		"HS256 with the public PEM":  {secret(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), false},
		"HS256 with the modulus":     {secret(keyA().N.Bytes()), false},
		"PS256":                      {sign(keyA(), `{"alg":"PS256","kid":"a"}`, text(m)), false},
		"RS512 of a key for RS256":   {sign(keyA(), `{"alg":"RS512","kid":"a"}`, text(m)), false},
		"another's key":              {sign(keyB(), goodHead, text(m)), false},
		"unknown kid":                {sign(keyA(), `{"alg":"RS256","kid":"b"}`, text(m)), false},
		"missing kid":                {sign(keyA(), `{"alg":"RS256"}`, text(m)), false},
		"empty kid":                  {sign(keyA(), `{"alg":"RS256","kid":""}`, text(m)), false},
		"kid in capitals":            {sign(keyA(), `{"alg":"RS256","KID":"a"}`, text(m)), false},
		"kid of number":              {sign(keyA(), `{"alg":"RS256","kid":1}`, text(m)), false},
		"kid that leads elsewhere":   {sign(keyA(), `{"alg":"RS256","kid":"../../../../dev/null"}`, text(m)), false},
		"kid that is an address":     {sign(keyB(), `{"alg":"RS256","kid":"http://127.0.0.1:1/jwk"}`, text(m)), false},
		"kid that is too long":       {sign(keyA(), `{"alg":"RS256","kid":"`+strings.Repeat("a", 201)+`"}`, text(m)), false},
		"kid twice":                  {sign(keyA(), `{"alg":"RS256","kid":"b","kid":"a"}`, text(m)), false},
		"a key of its own":           {sign(keyB(), `{"alg":"RS256","kid":"a","jwk":`+string(jwk)+`}`, text(m)), false},
		"a key of its own, well":     {head(`,"jwk":` + string(jwk)), false},
		"jku":                        {head(`,"jku":"` + d.machine.URL + `/jwk"`), false},
		"x5u":                        {head(`,"x5u":"` + d.machine.URL + `/jwk"`), false},
		"x5c":                        {head(`,"x5c":["MII"]`), false},
		"crit":                       {head(`,"crit":["exp"],"exp":1`), false},
		"typ of a logout":            {head(`,"typ":"logout+jwt"`), false},
		"signature gone":             {parts[0] + "." + parts[1] + ".", false},
		"signature changed":          {good[:len(good)-4] + "AAAA", false},
		"signature loosely encoded":  {loosely(good), false},
		"claims changed":             {parts[0] + "." + b64([]byte(text(with(m, "consumer", org(bergen))))) + "." + parts[2], false},
		"two parts":                  {parts[0] + "." + parts[1], false},
		"four parts":                 {good + ".AA", false},
		"something behind":           {good + " ", false},
		"a line end":                 {parts[0] + "\n." + parts[1] + "." + parts[2], false},
		"padding":                    {good + "=", false},
		"too long":                   {token(with(m, "x", strings.Repeat("x", 16<<10))), false},
		"garbage":                    {"garbage", false},
		"dots":                       {"..", false},
		"not JSON":                   {sign(keyA(), goodHead, "x"), false},
		"a list":                     {sign(keyA(), goodHead, "[]"), false},
		"null":                       {sign(keyA(), goodHead, "null"), false},
		"trailing data":              {sign(keyA(), goodHead, text(m)+"{}"), false},
		"a claim twice":              {sign(keyA(), goodHead, `{"iat":1,`+text(m)[1:]), false},
		"a claim twice, escaped":     {sign(keyA(), goodHead, `{"\u0065xp":1,`+text(m)[1:]), false},
		"a claim twice, deep":        {sign(keyA(), goodHead, strings.Replace(text(m), `"authority"`, `"ID":"0192:`+bergen+`","authority"`, 1)), false},
		"not UTF-8":                  {sign(keyA(), goodHead, `{"x":"`+"\xff"+`",`+text(m)[1:]), false},
		"deep":                       {sign(keyA(), goodHead, `{"x":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)+`,`+text(m)[1:]), false},
		"no consumer":                {token(with(m, "consumer", nil)), false},
		"consumer in text":           {token(with(m, "consumer", "0192:"+oslo)), false},
		"consumer in a list":         {token(with(m, "consumer", []any{org(oslo)})), false},
		"consumer without authority": {token(with(m, "consumer", map[string]any{"ID": "0192:" + oslo})), false},
		"another authority":          {token(with(m, "consumer", map[string]any{"authority": "iso6523", "ID": "0192:" + oslo})), false},
		"another country":            {token(with(m, "consumer", map[string]any{"authority": "iso6523-actorid-upis", "ID": "0007:" + oslo})), false},
		"a number alone":             {token(with(m, "consumer", map[string]any{"authority": "iso6523-actorid-upis", "ID": oslo})), false},
		"ID in small letters":        {token(with(m, "consumer", map[string]any{"authority": "iso6523-actorid-upis", "id": "0192:" + oslo})), false},
		"bad check digit":            {token(with(m, "consumer", org("958935421"))), false},
		"a person as consumer":       {token(with(m, "consumer", org(p["pid"].(string)))), false},
		"no client":                  {token(with(m, "client_id", nil)), false},
		"a client with a line end":   {token(with(m, "client_id", "a\nb")), false},
		"a long client":              {token(with(m, "client_id", strings.Repeat("a", 129))), false},
		"no scope":                   {token(with(m, "scope", nil)), false},
		"another's scope":            {token(with(m, "scope", "skatteetaten:inntekt datafordelerx:receive")), false},
		"scopes in a list":           {token(with(m, "scope", []string{"datafordeler:receive"})), false},
		"supplier without source":    {token(with(supplied, "delegation_source", nil)), false},
		"source without supplier":    {token(with(supplied, "supplier", nil)), false},
		"another source":             {token(with(supplied, "delegation_source", "https://tt02.altinn.example/")), false},
		"a bad supplier":             {token(with(supplied, "supplier", org("313876145"))), false},
		"supplier in text":           {token(with(supplied, "supplier", supplier)), false},
		"a supplier to itself":       {token(with(supplied, "supplier", org(oslo))), false},

		"a citizen":                 {token(p), true},
		"a citizen, substantial":    {token(with(p, "acr", "idporten-loa-substantial")), true},
		"a citizen, two audiences":  {token(with(p, "aud", []string{"innbygger", "other"}, "azp", "innbygger")), true},
		"acr too low":               {token(with(p, "acr", "idporten-loa-low")), false},
		"acr unknown":               {token(with(p, "acr", "Level4")), false},
		"acr missing":               {token(with(p, "acr", nil)), false},
		"acr in a list":             {token(with(p, "acr", []string{"idporten-loa-high"})), false},
		"pid missing":               {token(with(p, "pid", nil)), false},
		"pid of number":             {token(with(p, "pid", 1)), false},
		"pid too short":             {token(with(p, "pid", p["pid"].(string)[:10])), false},
		"pid with a bad digit":      {token(with(p, "pid", p["pid"].(string)[:10]+string('0'+(p["pid"].(string)[10]-'0'+1)%10))), false},
		"another site's login":      {token(with(p, "aud", "other")), false},
		"no site's login":           {token(with(p, "aud", nil)), false},
		"made for another site":     {token(with(p, "azp", "other")), false},
		"two audiences, azp unsaid": {token(with(p, "aud", []string{"innbygger", "other"})), false},
		"a machine's, as a login":   {token(with(m, "iss", p["iss"], "aud", "innbygger")), false},
		"a login, as a machine's":   {token(with(p, "iss", m["iss"])), false},
	} {
		t.Run(name, func(t *testing.T) {
			caller, err := d.Verify(t.Context(), c.token)
			var bad *TokenError
			switch {
			case c.right && err != nil:
				t.Fatal(err)
			case !c.right && !errors.As(err, &bad):
				t.Fatalf("%+v, %v", caller, err)
			case !c.right && (bad.Why == "" || strings.Contains(bad.Why, p["pid"].(string)) || len(c.token) > 20 && strings.Contains(bad.Why, c.token)):
				t.Fatalf("it says %q", bad.Why)
			}
			again, err2 := d.Verify(t.Context(), c.token)
			if (err == nil) != (err2 == nil) || again.Organisation != caller.Organisation || again.Person != caller.Person {
				t.Fatalf("a second time: %+v, %v", again, err2)
			}
		})
	}
}

// loosely encodes the same bytes otherwise: the last letter's unused bits are set.
func loosely(token string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(letters, token[len(token)-1])
	other := token[:len(token)-1] + string(letters[last|1])
	if other == token {
		other = token[:len(token)-1] + string(letters[last^1])
	}
	sig := other[strings.LastIndexByte(other, '.')+1:]
	if _, err := base64.RawURLEncoding.DecodeString(sig); err != nil {
		panic(err)
	}
	return other
}

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{"Bearer x": "x", "bearer x": "x", "Bearer   x": "x"} {
		if got, err := bearer(header); err != nil || got != want {
			t.Errorf("%q: %q, %v", header, got, err)
		}
	}
	for header, missing := range map[string]bool{"": true, "Basic x": false, "x": false, "Bearerx": false} {
		var bad *TokenError
		if _, err := bearer(header); !errors.As(err, &bad) || bad.Missing != missing {
			t.Errorf("%q: %v", header, err)
		}
	}
}

// What a caller is, from claims as Maskinporten has been seen to make them.
func TestCaller(t *testing.T) {
	d := newDoors(t, nil)
	m := machine(d.machine.URL + "/")
	c, err := d.Verify(t.Context(), token(with(m, "supplier", org(supplier), "delegation_source", "https://tt02.altinn.no/", "pid", synthetic)))
	if err != nil {
		t.Fatal(err)
	}
	if c.Organisation != oslo || c.Supplier != supplier || c.Acting() != supplier || c.Client != m["client_id"] || !c.Person.IsZero() ||
		!c.HasScope("datafordeler:lookup") || c.HasScope("datafordeler:audit") || !c.Expires.Equal(t0.Add(120e9)) {
		t.Errorf("%+v", c)
	}
	p := person(d.login.URL + "/")
	c, err = d.Verify(t.Context(), token(p))
	if err != nil {
		t.Fatal(err)
	}
	if c.Organisation != "" || c.Client != "innbygger" || c.Person.Number() != p["pid"] || len(c.Scopes) > 0 {
		t.Errorf("%+v", c)
	}
}

// The whole of a token's claims where audiences are configured.
func TestAudiences(t *testing.T) {
	d := newDoors(t, func(c *Config) { c.Issuers[0].Audiences = []string{"https://deling.example/"} })
	m := machine(d.machine.URL + "/")
	for _, x := range []struct {
		aud   any
		right bool
	}{
		{"https://deling.example/", true}, {[]string{"x", "https://deling.example/"}, true},
		{"https://deling.example", false}, {"unspecified", false}, {nil, false}, {[]string{}, false}, {"", false},
	} {
		if _, err := d.Verify(t.Context(), token(with(m, "aud", x.aud))); (err == nil) != x.right {
			t.Errorf("%v: %v", x.aud, err)
		}
	}
}

// A person's number by every rule of both centuries, held to the generator's own
// reading.
func TestPersonNumbers(t *testing.T) {
	right := 0
	for day := range 100 {
		for month := range 100 {
			for i := (day + month) % 7; i < 100; i += 7 {
				s := strings.Join([]string{two(day), two(month), two(68 + (day+month)%4), "123", two(i)}, "")
				// The generator has only Tenor's synthetic people.
				if m := month; m > 40 && m < 81 {
					continue
				}
				if ValidPersonNumber(s) {
					right++
				}
				if ValidPersonNumber(s) != population.ValidNationalID(s) {
					t.Fatalf("day %d, month %d, %d: %v", day, month, i, ValidPersonNumber(s))
				}
			}
		}
	}
	if right == 0 {
		t.Error("none is right")
	}
	for _, s := range []string{"", "1", strings.Repeat("a", 11), strings.Repeat("0", 12)} {
		if ValidPersonNumber(s) {
			t.Error(s)
		}
	}
}

func two(n int) string { return string([]byte{byte('0' + n/10), byte('0' + n%10)}) }

// A token has claims that nobody here asks for, and lacks others.
func TestDelegatedClaims(t *testing.T) {
	d := newDoors(t, nil)
	c, err := d.Verify(t.Context(), token(map[string]any{
		"iss": d.machine.URL + "/", "client_amr": "virksomhetssertifikat", "token_type": "Bearer", "client_id": "oidc_fagsystem",
		"aud": "unspecified", "scope": "datafordeler:receive", "client_orgno": supplier, "jti": "x",
		"consumer": org(oslo), "supplier": org(supplier), "delegation_source": "https://tt02.altinn.no/",
		"exp": t0.Unix() + 100, "iat": t0.Unix() - 900,
	}))
	if err != nil || c.Organisation != oslo || c.Supplier != supplier {
		t.Fatalf("%+v, %v", c, err)
	}
}
