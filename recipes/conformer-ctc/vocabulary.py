"""Word lists of the synthetic training corpus: everyday English, by part of speech and topic.

Written for this project, so free of any corpus' licence. `sentences.py` combines them; nothing here has code.
"""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """The space-separated words of `text`, in order."""
    return tuple(text.split())


def phrases(text: str) -> tuple[str, ...]:
    """The phrases of `text` between bars, line breaks and indents dropped."""
    return tuple(" ".join(phrase.split()) for phrase in text.split("|"))


# base, third person, past, participle, -ing; transitive
VERBS = tuple(
    words(forms)
    for forms in phrases(
        """
        see sees saw seen seeing|take takes took taken taking|make makes made made making|
        find finds found found finding|want wants wanted wanted wanting|use uses used used using|
        need needs needed needed needing|like likes liked liked liking|love loves loved loved loving|
        hate hates hated hated hating|help helps helped helped helping|call calls called called calling|
        ask asks asked asked asking|tell tells told told telling|give gives gave given giving|
        bring brings brought brought bringing|buy buys bought bought buying|sell sells sold sold selling|
        carry carries carried carried carrying|hold holds held held holding|keep keeps kept kept keeping|
        lose loses lost lost losing|win wins won won winning|watch watches watched watched watching|
        hear hears heard heard hearing|know knows knew known knowing|
        remember remembers remembered remembered remembering|forget forgets forgot forgotten forgetting|
        leave leaves left left leaving|meet meets met met meeting|visit visits visited visited visiting|
        follow follows followed followed following|open opens opened opened opening|
        close closes closed closed closing|push pushes pushed pushed pushing|
        pull pulls pulled pulled pulling|break breaks broke broken breaking|fix fixes fixed fixed fixing|
        build builds built built building|draw draws drew drawn drawing|
        paint paints painted painted painting|clean cleans cleaned cleaned cleaning|
        wash washes washed washed washing|cook cooks cooked cooked cooking|eat eats ate eaten eating|
        drink drinks drank drunk drinking|catch catches caught caught catching|
        throw throws threw thrown throwing|kick kicks kicked kicked kicking|
        touch touches touched touched touching|move moves moved moved moving|
        change changes changed changed changing|choose chooses chose chosen choosing|
        cut cuts cut cut cutting|cover covers covered covered covering|
        count counts counted counted counting|check checks checked checked checking|
        show shows showed shown showing|send sends sent sent sending|teach teaches taught taught teaching|
        learn learns learned learned learning|read reads read read reading|
        write writes wrote written writing|study studies studied studied studying|
        understand understands understood understood understanding|
        believe believes believed believed believing|thank thanks thanked thanked thanking|
        trust trusts trusted trusted trusting|miss misses missed missed missing|
        hide hides hid hidden hiding|hit hits hit hit hitting|hurt hurts hurt hurt hurting|
        save saves saved saved saving|spend spends spent spent spending|
        steal steals stole stolen stealing|wear wears wore worn wearing|
        borrow borrows borrowed borrowed borrowing|lend lends lent lent lending|
        answer answers answered answered answering|finish finishes finished finished finishing|
        start starts started started starting|stop stops stopped stopped stopping|
        enjoy enjoys enjoyed enjoyed enjoying|explain explains explained explained explaining|
        plan plans planned planned planning|reach reaches reached reached reaching|
        fill fills filled filled filling|feed feeds fed fed feeding|drop drops dropped dropped dropping|
        lift lifts lifted lifted lifting|join joins joined joined joining|
        invite invites invited invited inviting|plant plants planted planted planting|
        pick picks picked picked picking|order orders ordered ordered ordering|pay pays paid paid paying|
        hunt hunts hunted hunted hunting|describe describes described described describing|
        consider considers considered considered considering|
        discover discovers discovered discovered discovering|
        protect protects protected protected protecting|receive receives received received receiving|
        accept accepts accepted accepted accepting|refuse refuses refused refused refusing|
        prepare prepares prepared prepared preparing|remove removes removed removed removing|
        repair repairs repaired repaired repairing|notice notices noticed noticed noticing|
        examine examines examined examined examining|produce produces produced produced producing|
        support supports supported supported supporting|
        control controls controlled controlled controlling|
        mention mentions mentioned mentioned mentioning|collect collects collected collected collecting|
        fear fears feared feared fearing|shake shakes shook shaken shaking|ride rides rode ridden riding|
        drive drives drove driven driving|smell smells smelled smelled smelling|
        taste tastes tasted tasted tasting
        """
    )
)

# intransitive, same five forms
VERBS_ALONE = tuple(
    words(forms)
    for forms in phrases(
        """
        go goes went gone going|come comes came come coming|run runs ran run running|
        walk walks walked walked walking|sit sits sat sat sitting|stand stands stood stood standing|
        sleep sleeps slept slept sleeping|wake wakes woke woken waking|wait waits waited waited waiting|
        work works worked worked working|play plays played played playing|
        talk talks talked talked talking|speak speaks spoke spoken speaking|
        laugh laughs laughed laughed laughing|smile smiles smiled smiled smiling|
        cry cries cried cried crying|sing sings sang sung singing|dance dances danced danced dancing|
        swim swims swam swum swimming|fly flies flew flown flying|fall falls fell fallen falling|
        jump jumps jumped jumped jumping|climb climbs climbed climbed climbing|
        live lives lived lived living|stay stays stayed stayed staying|
        return returns returned returned returning|arrive arrives arrived arrived arriving|
        travel travels traveled traveled traveling|listen listens listened listened listening|
        look looks looked looked looking|think thinks thought thought thinking|
        dream dreams dreamed dreamed dreaming|worry worries worried worried worrying|
        agree agrees agreed agreed agreeing|grow grows grew grown growing|
        shine shines shone shone shining|happen happens happened happened happening|
        begin begins began begun beginning|rest rests rested rested resting|
        fight fights fought fought fighting|shout shouts shouted shouted shouting|
        whisper whispers whispered whispered whispering|breathe breathes breathed breathed breathing|
        hurry hurries hurried hurried hurrying|turn turns turned turned turning|
        appear appears appeared appeared appearing|
        disappear disappears disappeared disappeared disappearing|rise rises rose risen rising|
        move moves moved moved moving|relax relaxes relaxed relaxed relaxing|
        practice practices practiced practiced practicing|
        exercise exercises exercised exercised exercising
        """
    )
)


PLACES = words(
    """
    park school house garden kitchen bedroom bathroom library hospital station airport market store shop
    restaurant cafe hotel bank office church museum theater cinema zoo farm village town city country
    beach river lake sea island mountain hill forest field road street bridge corner yard classroom
    playground gym office pool stadium castle tower factory prison court university college kindergarten
    supermarket bakery bookstore pharmacy harbor desert valley jungle garage basement hall room studio
    """
)

FOODS = words(
    """
    bread butter cheese milk egg rice noodles soup salad meat beef pork chicken fish lamb bacon sausage
    ham burger sandwich pizza pasta cake cookie pie candy chocolate honey sugar salt pepper oil tea coffee
    juice water soda beer wine apple banana orange lemon pear peach grape cherry strawberry melon
    watermelon pineapple mango coconut tomato potato carrot onion garlic cabbage lettuce corn bean pea
    pumpkin mushroom spinach broccoli cucumber nut peanut jam cream yogurt breakfast lunch dinner supper
    snack meal dumpling toast cereal turkey shrimp biscuit
    """
)

ANIMALS = words(
    """
    dog cat bird horse cow pig sheep goat duck goose chicken rabbit mouse rat lion tiger bear wolf fox
    deer monkey elephant giraffe zebra kangaroo panda camel donkey frog snake turtle lizard crocodile fish
    shark whale dolphin octopus crab ant bee fly spider butterfly mosquito worm snail eagle owl parrot
    penguin swan crow pigeon hamster puppy kitten squirrel hedgehog bat beetle
    """
)

PEOPLE = words(
    """
    man woman boy girl child baby friend father mother brother sister son daughter uncle aunt cousin
    grandfather grandmother husband wife parent family neighbor teacher student doctor nurse farmer driver
    pilot soldier policeman lawyer judge artist singer dancer actor writer painter player coach captain
    king queen prince princess president boss worker engineer scientist cook waiter baker butcher tailor
    barber dentist sailor hunter thief stranger visitor guest customer owner manager leader classmate
    roommate partner people prisoner governor officer secretary
    """
)

THINGS = words(
    """
    book pen pencil paper letter card picture photo map clock watch phone computer radio television camera
    table chair bed desk lamp door window wall floor roof key lock box bag basket bottle cup glass plate
    bowl knife fork spoon car bus train plane boat ship bike truck taxi wheel ticket money coin gift toy
    ball doll kite game piano guitar violin drum song story movie music shirt coat jacket sweater dress
    skirt hat cap shoe sock glove scarf belt ring umbrella towel blanket pillow soap brush comb mirror
    tree flower grass leaf stone sand snow ice fire smoke star moon sun cloud rain wind storm rainbow
    newspaper magazine dictionary homework lesson test question answer problem idea plan dream secret name
    word number line circle square color voice sound noise light shadow hand arm leg foot head face eye
    ear nose mouth tooth hair finger knee heart machine engine tool hammer nail rope needle thread button
    candle bell flag medal prize engine tent ladder fence gate path hole wood metal iron gold silver
    cotton wool silk leather plastic fact reason law rule order page type chapter sentence language
    history science art
    """
)

ABSTRACT = words(
    """
    time life love peace war truth luck hope fear joy anger health trouble help work business news
    information advice weather traffic homework fun freedom power energy strength knowledge education
    experience progress patience courage beauty justice success failure safety danger silence nature
    culture religion government society religion music design printing history practice custom condition
    """
)

ADJECTIVES = words(
    """
    big small large little long short tall high low wide narrow thick thin heavy light fast slow quick
    early late new old young fresh clean dirty wet dry hot cold warm cool hard soft strong weak rich poor
    cheap expensive easy difficult simple important interesting boring beautiful pretty ugly handsome cute
    lovely nice good bad great terrible wonderful perfect strange funny serious happy sad angry afraid
    tired hungry thirsty sick healthy busy free ready safe dangerous careful lazy smart clever stupid kind
    friendly polite rude quiet loud noisy bright dark red blue green yellow white black brown gray pink
    purple orange golden round square flat empty full open closed broken lost famous popular common rare
    special different same real true false right wrong clear deep shallow sharp smooth rough sweet sour
    bitter salty delicious brave shy proud honest lucky nervous surprised excited worried lonely calm
    crazy modern ancient foreign local public private national human wild single double whole extra final
    chief general ordinary worthy regular
    """
)

ADVERBS = words(
    """
    quickly slowly quietly loudly carefully happily sadly easily suddenly finally usually often always
    never sometimes again together alone soon early late now then here there today tomorrow yesterday
    tonight everywhere outside inside upstairs downstairs abroad really very well badly hard fast almost
    already still maybe perhaps certainly probably exactly nearly clearly simply gently
    """
)

TIMES = phrases(
    """
    today|tomorrow|yesterday|tonight|now|every day|every morning|every night|last night|last week|last year|
    next week|next month|next year|this morning|this afternoon|this evening|this weekend|on monday|
    on tuesday|on wednesday|on thursday|on friday|on saturday|on sunday|in the morning|in the afternoon|
    in the evening|at night|at noon|at midnight|at six o'clock|at half past seven|after school|after work|
    before dinner|after lunch|before breakfast|in spring|in summer|in autumn|in winter|a long time ago|
    two days ago|three years ago|for a moment|for an hour|for ten minutes|all day|all night|once a week|
    twice a month|in january|in march|in july|in october|right now|at the weekend|during the holidays|
    on my birthday|on christmas day|from time to time|at last|at first|in the end|in the meantime
    """
)

WEATHER = words("sunny cloudy rainy windy snowy foggy stormy hot cold warm cool freezing wet dry dark bright")
SUBJECTS = words(
    """
    math english chinese history geography physics chemistry biology music art science french german
    spanish japanese
    """
)
SPORTS = words(
    """
    football basketball baseball tennis volleyball hockey golf badminton cricket rugby chess cards
    swimming skating skiing boxing
    """
)
JOBS = phrases(
    """
    a teacher|an engineer|a doctor|a nurse|a driver|a singer|a farmer|a writer|an actor|a scientist|
    a pilot|a cook
    """
)
BODY = words("head back leg arm foot hand tooth stomach neck knee finger eye ear throat shoulder")
PREPOSITIONS = words(
    """
    in near behind at beside outside inside around across under over from to into by through past beyond
    toward
    """
)
QUESTION_WORDS = words("what when where why how who which")
FILLERS = phrases(
    """
    well|oh|yes|no|okay|please|sorry|hello|hi|thank you|thanks|excuse me|of course|i think|you know|i guess|
    maybe|certainly|good morning|good night|good luck|happy birthday|see you later|come on|never mind|
    all right|i'm sorry|not at all|you're welcome|that's right
    """
)
CONJUNCTIONS = words("and but so because when if before after while although until since unless or")
# extra words that no template needs but the alphabet's letter pairs do
EXTRA = words(
    """
    about above across actually address adventure against agreement ahead allow although amazing among
    amount anybody apartment appointment arrange article attention audience author available average
    balance bargain battle because beginning behavior beneath blood board body border bottom branch breath
    brief broad budget burden cabin calendar campaign candidate capable capital career cause ceiling
    celebrate century certain challenge chance character charge charm chief choice citizen claim coast
    coal code column combine comfort command committee compare complain complete concern concert
    conclusion confidence connect constant contact contain contest continue contract conversation copy
    council couple course cousin craft cream create crime crisis crowd current curious damage database
    debate debt decade decide decision declare degree delay deliver demand department depend deserve
    design destroy detail develop device dialog difference direction disease distance district divide
    document dozen drama duty earn earth edge effect effort either election electric element else empire
    encourage engage enormous enough enter entire environment equal error escape especially essay
    establish estimate event evidence evil exact exam example excellent except exchange exist expect
    expert express extreme factor fail fair faith familiar fashion fault favor feature federal feeling
    fellow female fiction figure film finance firm fix flight float flow focus folk force form fortune
    forward foundation frame frequent fuel function fund further future gain gather generation genius
    giant glance goal govern grade grain grand grateful ground growth guard guess guide guilty habit
    handle harm heaven height hero honor horrible host however huge humor hundred ignore image imagine
    immediately improve inch include income increase indeed independent industry influence inform injury
    inner insect insist inspect instance instead instruction insurance intend interest internet interview
    introduce invent island issue item jail jealous journal journey judgment junior jury justice keyboard
    kingdom knock labor lack ladies language latter laugh launch layer lazy league length level liberty
    lip liquid literature logic loose lord loss lump luxury major male manner margin mark marriage mass
    master match material matter maximum maybe mayor measure media medical medicine member memory mental
    mercy message method middle mild military million mind mineral minimum minister minor minute miracle
    mission mistake mixture model modest moment monster mood moral motion motor movement multiply muscle
    mystery nation native natural necessary neither nervous network neutral nobody none normal north
    nothing novel nowhere object obvious occasion ocean offer official operate opinion opportunity
    opposite option ordinary organ origin ought ourselves outcome oven overall own oxygen pace package
    pain pair palace panel panic particular passage passenger passion patient pattern pause payment
    peculiar perform period permit person phase philosophy phrase physical piece pitch plain planet
    platform pleasant pleasure plenty poem poet policy political population portion position possible
    pound poverty practical praise pray precious prefer presence press pressure pretend prevent previous
    principle print prior private procedure process product profession professor profit program project
    promise proof proper property proposal prospect protest provide psychology purchase pure purpose
    puzzle quality quantity quarrel quarter quest quit quite quote race rail range rapid rate rather ratio
    raw react reality reason recent recipe recognize recommend record reduce refer reflect reform region
    register regret reject relation release religious rely remain remind remote rent repeat replace reply
    represent request require rescue research reserve resource respect response restore result retire
    reveal review revolution reward rhythm risk rival role root route royal rude rural rush sacred
    sacrifice sail salary sample satisfy scale scene schedule scheme scholar scream screen script search
    season seat section seek seize select senate senior sense series servant service session settle
    several severe shade shame shape share shelter shift shock shoot shore shoulder shut side sight sign
    signal similar since site situation size skill slave slice slight slip smart social society soil solid
    solution somebody source south space spare special species speech spell spirit split spot spread
    stable staff stage stair standard state statue status steady steal steam steel step stick stock
    stomach storage straight strategy stream stress stretch strike string strip structure struggle stuff
    style subject succeed such suffer suggest suit supply suppose surface surprise surround survey survive
    suspect swear sweep swing switch symbol system tale talent tank target task tax team tear technique
    technology temple temporary tend term theme theory therefore thick thirst thousand threat throat
    throughout thumb thus tide tight till tiny title tobacco tone tongue topic total tough tour toward
    trade tradition tragedy trail transfer translate transport trap treasure treat trend trial tribe trick
    trip troop tube tune twin twist typical ugly unable uniform union unique unit universe unless unusual
    upper upset urban urge usual vacation vague valley value van variety various vast vehicle version
    vessel via victim victory video view violence virtue virus vision visual vital vivid volume vote wage
    wander warn waste wave weapon weekend weight welcome whatever wheat whereas whether whom whose wicked
    widow wise wish within without witness wonder worship worth wound wrap yard yawn yell yellow yesterday
    yield zero zone
    """
)
